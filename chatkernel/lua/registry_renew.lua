#!lua
-- Renew the lease of one run of a pod.
-- KEYS: pods, leases, departed, ended. ARGV: name, incarnation, started_at (ms), lease (ms), entry (JSON).
-- Returns {ok, missing}.
local pods, leases, departed, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, incarnation, started_at = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local present = redis.call('HGET', pods, name)
local ok, entry = pcall(cjson.decode, present)
if not ok or type(entry) ~= 'table' or type(entry.incarnation) ~= 'string' then
  -- What no pod has written is overwritten.
  present = false
end
local ends = tonumber(redis.call('HGET', leases, name)) or -1
if redis.call('ZSCORE', ended, name .. '~' .. incarnation) then
  if present then
    if entry.incarnation ~= incarnation and ends > now and (tonumber(entry.started_at) or 0) > started_at then
      return {0, 0}
    end
  end
  return {0, 1}
end
local missing = 1
if present then
  local run = name .. '~' .. entry.incarnation
  if entry.incarnation == incarnation then
    if ends > 0 then
      missing = 0
    else
      -- It was taken for dead and lives: it writes its routes anew, whether or not they have been cleared away.
      redis.call('HDEL', departed, run)
    end
  elseif ends > now and (tonumber(entry.started_at) or 0) > started_at then
    return {0, 0}
  else
    -- A newer run takes the name over: the older one is over, and what it had in flight is somebody's to look at,
    -- unless it was condemned and that has been seen to.
    redis.call('ZADD', ended, now, run)
    if ends > 0 then
      redis.call('HSET', departed, run, present)
    end
  end
end
if not present then
  -- It was forgotten long after its lease, and lives.
  redis.call('HDEL', departed, name .. '~' .. incarnation)
end
redis.call('HSET', pods, name, ARGV[5])
redis.call('HSET', leases, name, now + tonumber(ARGV[4]))
return {1, missing}

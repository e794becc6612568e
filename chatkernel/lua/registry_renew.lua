#!lua
-- Renew the lease of one run of a pod.
-- KEYS: the registry. ARGV: name, incarnation, started_at (ms), lease (ms), entry (JSON).
-- Returns {ok, missing, gone}.
local registry = KEYS[1]
local name, incarnation, started_at = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if (tonumber(redis.call('HGET', registry, 'gone:' .. name)) or 0) > now then
  return {0, 0, 1}
end
local present = redis.call('HGET', registry, 'pod:' .. name)
local ok, entry = pcall(cjson.decode, present)
if not ok or type(entry) ~= 'table' or type(entry.incarnation) ~= 'string' then
  -- What no pod has written is overwritten.
  present = false
end
local ends = tonumber(redis.call('HGET', registry, 'lease:' .. name)) or -1
if redis.call('HEXISTS', registry, 'ended:' .. name .. '~' .. incarnation) == 1 then
  if present then
    if entry.incarnation ~= incarnation and ends > now and (tonumber(entry.started_at) or 0) > started_at then
      return {0, 0, 0}
    end
  end
  return {0, 1, 0}
end
local missing = 1
if present then
  local run = name .. '~' .. entry.incarnation
  if entry.incarnation == incarnation then
    if ends > 0 then
      missing = 0
    else
      -- It was taken for dead and lives: it writes its routes anew, whether or not they have been cleared away.
      redis.call('HDEL', registry, 'departed:' .. run)
    end
  elseif ends > now and (tonumber(entry.started_at) or 0) > started_at then
    return {0, 0, 0}
  else
    -- A newer run takes the name over: the older one is over, and what it had in flight is somebody's to look at,
    -- unless it was condemned and that has been seen to.
    redis.call('HSET', registry, 'ended:' .. run, now)
    if ends > 0 then
      redis.call('HSET', registry, 'departed:' .. run, present)
    end
  end
end
if not present then
  -- It was forgotten long after its lease, and lives.
  redis.call('HDEL', registry, 'departed:' .. name .. '~' .. incarnation)
end
redis.call('HSET', registry, 'pod:' .. name, ARGV[5])
redis.call('HSET', registry, 'lease:' .. name, now + tonumber(ARGV[4]))
return {1, missing, 0}

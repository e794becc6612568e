-- End a run whose lease is over: from here on it cannot renew.
-- KEYS: pods, leases, departed, ended. ARGV: name, incarnation, how long to remember ended runs (ms).
-- Returns 1 if the run is over and not yet cleared away.
local pods, leases, departed, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, run = ARGV[1], ARGV[1] .. '~' .. ARGV[2]
if redis.call('ZSCORE', ended, run) then
  return redis.call('HEXISTS', departed, run)
end
local present = redis.call('HGET', pods, name)
if not present or cjson.decode(present).incarnation ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(redis.call('HGET', leases, name) or 0) > now then
  return 0
end
redis.call('ZREMRANGEBYSCORE', ended, '-inf', now - tonumber(ARGV[3]))
redis.call('ZADD', ended, now, run)
redis.call('HSET', departed, run, present)
return 1

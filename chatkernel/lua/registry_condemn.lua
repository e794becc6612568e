#!lua
-- Take a run whose lease is over for dead: what it left may be cleared away. Marked by a negative end of its lease.
-- KEYS: the registry. ARGV: name, incarnation.
-- Returns 1 if the run is over and not yet cleared away.
local registry = KEYS[1]
local name, run = ARGV[1], ARGV[1] .. '~' .. ARGV[2]
local present = redis.call('HGET', registry, 'pod:' .. name)
local ok, entry = pcall(cjson.decode, present)
if not ok or type(entry) ~= 'table' or entry.incarnation ~= ARGV[2] then
  return redis.call('HEXISTS', registry, 'departed:' .. run)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = tonumber(redis.call('HGET', registry, 'lease:' .. name)) or -1
if ends > now then
  return 0
end
if ends > 0 then
  redis.call('HSET', registry, 'lease:' .. name, -ends)
  redis.call('HSET', registry, 'departed:' .. run, present)
end
return redis.call('HEXISTS', registry, 'departed:' .. run)

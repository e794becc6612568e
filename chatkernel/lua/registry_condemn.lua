#!lua
-- Take a run whose lease is over for dead: what it left may be cleared away. Marked by a negative end of its lease.
-- KEYS: pods, leases, departed. ARGV: name, incarnation.
-- Returns 1 if the run is over and not yet cleared away.
local pods, leases, departed = KEYS[1], KEYS[2], KEYS[3]
local name, run = ARGV[1], ARGV[1] .. '~' .. ARGV[2]
local present = redis.call('HGET', pods, name)
local ok, entry = pcall(cjson.decode, present)
if not ok or type(entry) ~= 'table' or entry.incarnation ~= ARGV[2] then
  return redis.call('HEXISTS', departed, run)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = tonumber(redis.call('HGET', leases, name)) or -1
if ends > now then
  return 0
end
if ends > 0 then
  redis.call('HSET', leases, name, -ends)
  redis.call('HSET', departed, run, present)
end
return redis.call('HEXISTS', departed, run)

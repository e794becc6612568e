#!lua
-- A device logs out. KEYS: the user's key. ARGV: device, how long to keep what is known of a user (ms).
-- Returns {end of the latest lease of another device or 0, end of this one's or 0}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local its = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], '', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local latest = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= '' and all[i] ~= '*' then
    latest = math.max(latest, tonumber(all[i + 1]))
  end
end
return { latest, its }

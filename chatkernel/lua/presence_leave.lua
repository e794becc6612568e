#!lua
-- A device logs out. KEYS: expiry, unsettled, user's key.
-- ARGV: user, device, last active at (ms), how long to keep what is known of a user (ms).
-- Returns 1 if the user went offline by it.
local expiry, unsettled, key = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HDEL', key, ARGV[2])
local latest, last = 0, tonumber(ARGV[3])
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  if all[i] == '' then
    last = math.max(last, tonumber(all[i + 1]))
  elseif all[i] ~= '*' then
    latest = math.max(latest, tonumber(all[i + 1]))
  end
end
redis.call('HSET', key, '', last)
redis.call('PEXPIRE', key, ARGV[4])
if latest > now then
  -- The other device's lease counts from now on; without this the user would stay online for the one that left.
  redis.call('ZADD', expiry, latest, ARGV[1])
  return 0
end
return redis.call('ZREM', expiry, ARGV[1])

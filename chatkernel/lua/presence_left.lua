#!lua
-- A user's device has logged out. KEYS: expiry.
-- ARGV: user, end of the latest lease of another device (or 0), until when a lease may run that was known of then.
-- Returns 1 if the user went off line by it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if ends <= 0 or ends > tonumber(ARGV[3]) then
  -- Not on line; or a device has come between the two questions.
  return 0
end
if tonumber(ARGV[2]) > now then
  -- The other device's lease counts from now on; without this the user would stay online for the one that left.
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
  return 0
end
return redis.call('ZREM', KEYS[1], ARGV[1])

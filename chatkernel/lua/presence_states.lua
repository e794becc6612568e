#!lua
-- KEYS: expiry, then users' keys. ARGV: users.
-- Returns {online (1 or 0), last active at (ms) or false} for each, flat.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local out = {}
for i = 1, #ARGV do
  local ends = redis.call('ZSCORE', KEYS[1], ARGV[i])
  out[2 * i - 1] = ends and tonumber(ends) > now and 1 or 0
  out[2 * i] = redis.call('HGET', KEYS[i + 1], '')
end
return out

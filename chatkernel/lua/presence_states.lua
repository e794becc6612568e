#!lua
-- KEYS: expiry, mark, then users' keys. ARGV: users.
-- Returns now and since when the shard is kept (ms), and of each {online (1 or 0), last active at (ms) or false},
-- all of it flat.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local made = tonumber(redis.call('GET', KEYS[2]))
if not made then
  made = now
  redis.call('SET', KEYS[2], made)
end
local out = { now, made }
for i = 1, #ARGV do
  local ends = redis.call('ZSCORE', KEYS[1], ARGV[i])
  out[2 * i + 1] = ends and tonumber(ends) > now and 1 or 0
  out[2 * i + 2] = redis.call('HGET', KEYS[i + 2], '')
end
return out

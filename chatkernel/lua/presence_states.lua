#!lua
-- KEYS: expiry. ARGV: what is added to the time in the shard's mark, users.
-- Returns now and since when the shard is kept (ms), then 1 for each user who is on line and 0 for the others.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local apart = tonumber(ARGV[1])
local mark = redis.call('ZSCORE', KEYS[1], '')
if not mark then
  mark = apart + now
  redis.call('ZADD', KEYS[1], mark, '')
end
local out = { now, tonumber(mark) - apart }
local ends = redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 2))
for i = 1, #ARGV - 1 do
  out[i + 2] = ends[i] and tonumber(ends[i]) > now and 1 or 0
end
return out

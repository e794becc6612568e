#!lua
-- Generic cell rate. KEYS: the limit. ARGV: rate (per second), burst, cost. A negative cost gives back.
-- Returns microseconds to wait (0: taken).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step = 1000000 / tonumber(ARGV[1])
local arrival = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
local after = arrival + step * tonumber(ARGV[3])
local wait = after - step * tonumber(ARGV[2]) - now
if wait > 0 then
  return math.ceil(wait)
end
if after <= now then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.max(1, math.ceil((after - now) / 1000) + 1))
return 0

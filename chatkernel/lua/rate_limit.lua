#!lua
-- Generic cell rate. KEYS: the limit. ARGV: rate (per second), burst, cost. A negative cost gives back.
-- Returns microseconds to wait (0: taken).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step = 1000000 / tonumber(ARGV[1])
local arrival = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
local after = arrival + step * tonumber(ARGV[3])
local wait = after - step * tonumber(ARGV[2]) - now
local function keep(until_then)
  local left = math.max(1, math.ceil((until_then - now) / 1000) + 1)
  redis.call('SET', KEYS[1], string.format('%.0f', until_then), 'PX', left)
end
if wait > 0 then
  local whole = now + step * tonumber(ARGV[2])
  if arrival > whole then
    -- Further ahead than a whole burst: a clock that was ahead of this one wrote it, or the limit was another.
    keep(whole)
    wait = step * tonumber(ARGV[3])
  end
  return math.ceil(wait)
end
if after <= now then
  redis.call('DEL', KEYS[1])
  return 0
end
keep(after)
return 0

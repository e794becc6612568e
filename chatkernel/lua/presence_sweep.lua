#!lua
-- Take those whose last lease is over. KEYS: expiry, unsettled, mark.
-- ARGV: most to take, what users' keys begin with (same slot), after what time to report again what was not settled
-- (ms). Returns {user, last active at (ms) or false} for each, flat.
local expiry, unsettled = KEYS[1], KEYS[2]
local limit = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[3], now, 'NX')
local out = {}
local users = redis.call('ZRANGE', expiry, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
for _, user in ipairs(users) do
  local key = ARGV[2] .. user
  redis.call('ZREM', expiry, user)
  redis.call('ZADD', unsettled, now, user)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if field ~= '' and field ~= '*' then
      redis.call('HDEL', key, field)
    end
  end
  out[#out + 1] = user
  out[#out + 1] = redis.call('HGET', key, '')
end
if #users < limit then
  -- Whoever took these before has died before telling their watchers.
  local again =
    redis.call('ZRANGE', unsettled, '-inf', now - tonumber(ARGV[3]), 'BYSCORE', 'LIMIT', 0, limit - #users)
  for _, user in ipairs(again) do
    redis.call('ZADD', unsettled, now, user)
    out[#out + 1] = user
    out[#out + 1] = redis.call('HGET', ARGV[2] .. user, '')
  end
end
return out

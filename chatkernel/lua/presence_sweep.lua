#!lua
-- Take those whose last lease is over. KEYS: expiry.
-- ARGV: what is added to the time in the shard's mark, most to take, after what time to report again what was not
-- settled (ms). Returns users. Their score is when they were taken, below zero.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], 'NX', tonumber(ARGV[1]) + now, '')
local users = redis.call('ZRANGE', KEYS[1], 1, now, 'BYSCORE', 'LIMIT', 0, limit)
if #users < limit then
  -- Whoever took these before has died before telling their watchers.
  local taken = -(now - tonumber(ARGV[3]))
  local again = redis.call('ZRANGE', KEYS[1], -1, taken, 'BYSCORE', 'REV', 'LIMIT', 0, limit - #users)
  for _, user in ipairs(again) do
    users[#users + 1] = user
  end
end
if #users > 0 then
  local scores = {}
  for _, user in ipairs(users) do
    scores[#scores + 1] = -now
    scores[#scores + 1] = user
  end
  redis.call('ZADD', KEYS[1], unpack(scores))
end
return users

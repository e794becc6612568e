#!lua
-- People are on line for a lease from now on. KEYS: expiry. ARGV: lease (ms), users.
-- Returns the positions (from 0) of those who came on line by it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local users = { unpack(ARGV, 2) }
local ends = redis.call('ZMSCORE', KEYS[1], unpack(users))
local scores, came, seen = {}, {}, {}
for i, user in ipairs(users) do
  if not seen[user] then
    seen[user] = true
    scores[#scores + 1] = now + tonumber(ARGV[1])
    scores[#scores + 1] = user
    -- Below zero: swept.
    if not ends[i] or tonumber(ends[i]) <= now then
      came[#came + 1] = i - 1
    end
  end
end
redis.call('ZADD', KEYS[1], unpack(scores))
return came

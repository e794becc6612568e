#!lua
-- The watchers of these have been told that they are off line. KEYS: expiry. ARGV: users.
local ends = redis.call('ZMSCORE', KEYS[1], unpack(ARGV))
local settled = {}
for i, user in ipairs(ARGV) do
  -- Not of who is on line again.
  if ends[i] and tonumber(ends[i]) < 0 then
    settled[#settled + 1] = user
  end
end
if #settled > 0 then
  redis.call('ZREM', KEYS[1], unpack(settled))
end
return 1

#!lua
-- The watchers of these have been told that they are off line. KEYS: expiry. ARGV: users.
for _, user in ipairs(ARGV) do
  -- Not of who is on line again.
  if tonumber(redis.call('ZSCORE', KEYS[1], user) or 0) < 0 then
    redis.call('ZREM', KEYS[1], user)
  end
end
return 1

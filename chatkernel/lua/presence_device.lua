#!lua
-- Renew a device's lease. KEYS: the user's key. ARGV: device, lease (ms), how long to keep what is known of a user (ms).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], now + tonumber(ARGV[2]), '', now)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if redis.call('HLEN', KEYS[1]) > 16 then
  -- A user who never goes offline would otherwise keep every device that ever was.
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if all[i] ~= '' and all[i] ~= '*' and tonumber(all[i + 1]) <= now then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
return 1

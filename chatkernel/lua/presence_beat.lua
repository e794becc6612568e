#!lua
-- Renew devices' leases. KEYS: expiry, unsettled, then the user's key of each device.
-- ARGV: lease (ms), how long to keep what is known of a user (ms), then user, device of each.
-- Returns the positions (from 0) of those whose user came online by it.
local expiry, unsettled = KEYS[1], KEYS[2]
local lease, keep = tonumber(ARGV[1]), ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local came = {}
for i = 3, #KEYS do
  local user, device = ARGV[2 * i - 3], ARGV[2 * i - 2]
  local ends = redis.call('ZSCORE', expiry, user)
  if not ends or tonumber(ends) <= now then
    came[#came + 1] = i - 3
    redis.call('ZREM', unsettled, user)
  end
  redis.call('HSET', KEYS[i], device, now + lease, '', now)
  redis.call('PEXPIRE', KEYS[i], keep)
  if redis.call('HLEN', KEYS[i]) > 16 then
    -- A user who never goes offline would otherwise keep every device that ever was.
    local all = redis.call('HGETALL', KEYS[i])
    for j = 1, #all, 2 do
      if all[j] ~= '' and all[j] ~= '*' and tonumber(all[j + 1]) <= now then
        redis.call('HDEL', KEYS[i], all[j])
      end
    end
  end
  redis.call('ZADD', expiry, now + lease, user)
end
return came

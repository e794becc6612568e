#!lua
-- Forget the devices of a user whose leases are over. KEYS: the user's key. Returns last active at (ms) or false.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local last = false
for i = 1, #all, 2 do
  if all[i] == '' then
    last = all[i + 1]
  elseif all[i] ~= '*' and tonumber(all[i + 1]) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return last

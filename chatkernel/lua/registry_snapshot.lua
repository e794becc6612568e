#!lua
-- Everything discovery needs, as of one moment.
-- KEYS: pods, leases, policy. Returns {now (ms), {name, entry, ...}, {name, lease_until, ...}, policy or false}.
local time = redis.call('TIME')
return {
  time[1] * 1000 + math.floor(time[2] / 1000),
  redis.call('HGETALL', KEYS[1]),
  redis.call('HGETALL', KEYS[2]),
  redis.call('GET', KEYS[3]),
}

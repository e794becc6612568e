#!lua
-- Everything discovery needs, as of one moment. KEYS: the registry. Returns {now (ms), {field, value, ...}}.
local time = redis.call('TIME')
return { time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1]) }

#!lua
-- Remove a pod's entry; its run is over and left to be cleared away.
-- KEYS: the registry. ARGV: name, incarnation ('' is any), how long to remember
-- ended runs (ms), 1 to spare it while its lease runs, and to let it come back: for who cannot know that it is over;
-- how long to let no run of this name in any more (ms, 0: let them), and then it is whichever run.
-- Returns 1 if there was one.
local registry = KEYS[1]
local name = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(ARGV[5]) > 0 then
  redis.call('HSET', registry, 'gone:' .. name, now + tonumber(ARGV[5]))
end
local present = redis.call('HGET', registry, 'pod:' .. name)
if not present then
  return 0
end
local ok, entry = pcall(cjson.decode, present)
if not ok or type(entry) ~= 'table' or type(entry.incarnation) ~= 'string' then
  -- Nobody's: no run has written it.
  redis.call('HDEL', registry, 'pod:' .. name)
  redis.call('HDEL', registry, 'lease:' .. name)
  return 1
end
local incarnation = entry.incarnation
if ARGV[5] == '0' and ARGV[2] ~= '' and ARGV[2] ~= incarnation then
  return 0
end
local ends = tonumber(redis.call('HGET', registry, 'lease:' .. name)) or -1
if ARGV[4] == '1' and ends > now then
  return 0
end
local run = name .. '~' .. incarnation
local all = redis.call('HGETALL', registry)
for i = 1, #all, 2 do
  local over = string.sub(all[i], 1, 6) == 'ended:' and (tonumber(all[i + 1]) or 0) < now - tonumber(ARGV[3])
  if over or (string.sub(all[i], 1, 5) == 'gone:' and (tonumber(all[i + 1]) or 0) < now) then
    redis.call('HDEL', registry, all[i])
  end
end
if ARGV[4] ~= '1' then
  redis.call('HSET', registry, 'ended:' .. run, now)
end
if ends > 0 then
  -- Otherwise it has been condemned, and cleared away or is about to be.
  redis.call('HSET', registry, 'departed:' .. run, present)
end
redis.call('HDEL', registry, 'pod:' .. name)
redis.call('HDEL', registry, 'lease:' .. name)
return 1

-- ARGV: job, token of who reads it ('' where its body is read), position that was read to ('' of a body), ms until a chunk
-- is sent again, 8 bytes of each id, how many items are unnamed, then of each chunk items, packed body, uploads, bytes
-- parked.
-- All of it or nothing. Returns the chunks' numbers, or nothing where the job takes no more of this reader.
local job, now = ARGV[1], now_ms()
if redis.call('HGET', key(job), 'state') ~= 'accepting' or holder_of(job, 'imports') ~= ARGV[2] then return nil end
-- What any job names while the collection is being synchronised is not removed by that. What stands here fails before
-- anything is written, if it fails: the ids have a bound, and a script keeps what it wrote.
local sync = redis.call('GET', syncing_key(job))
if sync then
  redis.call('APPEND', key(sync, 'ids'), ARGV[5])
  redis.call('HINCRBY', key(sync), 'named', #ARGV[5] / 8)
end
-- A reader that dies before it gets on shall not try for ever.
if ARGV[3] ~= '' and redis.call('HGET', key(job), 'position') ~= ARGV[3] then
  redis.call('HSET', key(job), 'position', ARGV[3], 'tries:imports', 0, 'outages:imports', 0)
end
redis.call('HINCRBY', key(job), 'unnamed', ARGV[6])
redis.call('ZADD', ACCEPTING, 'XX', now, job)
local numbers = {}
for i = 7, #ARGV, 4 do
  redis.call('HINCRBY', key(job), 'accepted', ARGV[i])
  redis.call('INCRBY', PENDING, ARGV[i])
  local n = add_chunk(job, ARGV[i], ARGV[i + 1], ARGV[i + 2], DUE, now + ARGV[4])
  park(job, n, ARGV[i + 3])
  numbers[#numbers + 1] = n
end
return numbers

-- ARGV: job, token of who reads it ('' where its body is read), position that was read to ('' of a body), 8 bytes of each
-- id where the job follows them, ms until a chunk is sent again, then of each chunk items, packed body, bytes parked.
-- All of it or nothing. Returns the chunks' numbers, or nothing where the job takes no more of this reader.
local job, now = ARGV[1], now_ms()
if redis.call('HGET', key(job), 'state') ~= 'accepting' or holder_of(job, 'imports') ~= ARGV[2] then return nil end
if ARGV[3] ~= '' then redis.call('HSET', key(job), 'position', ARGV[3], 'tries:imports', 0, 'outages:imports', 0) end
if ARGV[4] ~= '' then redis.call('APPEND', key(job, 'ids'), ARGV[4]) end
redis.call('ZADD', ACCEPTING, 'XX', now, job)
local numbers = {}
for i = 6, #ARGV, 3 do
  redis.call('HINCRBY', key(job), 'accepted', ARGV[i])
  redis.call('INCRBY', PENDING, ARGV[i])
  local n = add_chunk(job, ARGV[i], ARGV[i + 1], DUE, now + ARGV[5])
  park(job, n, ARGV[i + 2])
  numbers[#numbers + 1] = n
end
return numbers

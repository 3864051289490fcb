-- ARGV: job, items, packed body, ms until it is sent again. Returns the chunk's number, or -1 where the job takes no more.
local job = ARGV[1]
if redis.call('HGET', key(job), 'state') ~= 'accepting' then return -1 end
redis.call('HINCRBY', key(job), 'accepted', ARGV[2])
redis.call('INCRBY', PENDING, ARGV[2])
redis.call('ZADD', ACCEPTING, now_ms(), job)
return add_chunk(job, ARGV[2], ARGV[3], DUE, now_ms() + ARGV[4])

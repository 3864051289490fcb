-- ARGV: job, items, packed body, ms until it is sent again. Returns the chunk's number, or -1 where the job takes no more.
local job = ARGV[1]
if redis.call('HGET', key(job), 'state') ~= 'accepting' then return -1 end
local n = redis.call('HINCRBY', key(job), 'chunks', 1)
redis.call('HSET', key(job, 'chunks'), n, ARGV[2] .. ':' .. ARGV[3])
redis.call('HINCRBY', key(job), 'accepted', ARGV[2])
redis.call('ZADD', ACCEPTING, now_ms(), job)
redis.call('ZADD', DUE, now_ms() + ARGV[4], job .. '/' .. n)
return n

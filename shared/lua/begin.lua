-- ARGV: job. What its source needs is here: from now on a worker may read it. A second time changes nothing.
-- Returns 0 where it was cancelled.
local job = ARGV[1]
local state = redis.call('HGET', key(job), 'state')
if state == 'accepting' and redis.call('ZREM', ACCEPTING, job) == 1 then redis.call('ZADD', IMPORTS, now_ms(), job) end
return state == 'cancelled' and 0 or 1

-- ARGV: job. What its source needs is here: from now on a worker may read it. A second time changes nothing.
local job = ARGV[1]
if redis.call('HGET', key(job), 'state') ~= 'accepting' or redis.call('ZREM', ACCEPTING, job) == 0 then return 0 end
redis.call('ZADD', IMPORTS, now_ms(), job)
return 1

-- ARGV: line, job, token, lease ms. The lease lasts its whole length from now on.
-- Returns {held, lost or cancelled, chunks that have not ended, bytes that are parked for them}.
local line, job = ARGV[1], ARGV[2]
if holder_of(job, line) ~= ARGV[3] then return {'lost', 0, 0} end
redis.call('ZADD', line_key(line), 'XX', now_ms() + ARGV[4], job)
local word = redis.call('HGET', key(job), 'state') == 'cancelled' and 'cancelled' or 'held'
return {word, redis.call('HLEN', key(job, 'chunks')), number_of(job, 'parked')}

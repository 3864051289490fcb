-- ARGV: line, job, token, ms until it is taken again, 1 where the try shall not count, reason.
-- Returns how many tries count since it last got on.
local line, job = ARGV[1], ARGV[2]
if holder_of(job, line) ~= ARGV[3] then return 0 end
redis.call('HSET', key(job), 'holder:' .. line, 'nobody')
redis.call('ZADD', line_key(line), 'XX', now_ms() + ARGV[4], job)
if ARGV[6] ~= '' then redis.call('HSET', key(job), 'last_error', ARGV[6]) end
local tries = number_of(job, 'tries:' .. line)
-- As with chunks, a service that fails this often counts as broken for good.
if ARGV[5] == '1' and redis.call('HINCRBY', key(job), 'outages:' .. line, 1) <= MOST_OUTAGES and tries > 0 then
  return redis.call('HINCRBY', key(job), 'tries:' .. line, -1)
end
return tries

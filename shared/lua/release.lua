-- ARGV: job, chunk, token, ms until it is sent again, 1 where the attempt shall not count, reason.
local job, n, leases = ARGV[1], ARGV[2], key(ARGV[1], 'leases')
if redis.call('HGET', leases, 'token:' .. n) ~= ARGV[3] then return 0 end
redis.call('HDEL', leases, 'token:' .. n, 'until:' .. n)
if ARGV[5] == '1' then redis.call('HINCRBY', leases, 'attempts:' .. n, -1) end
redis.call('HSET', key(job), 'last_error', ARGV[6])
redis.call('ZADD', DUE, now_ms() + ARGV[4], job .. '/' .. n)
return 1

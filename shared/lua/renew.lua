-- ARGV: job, chunk, token, lease ms. Returns held, lost or cancelled.
-- Also a cancelled chunk stays its holder's until that ends: what it writes at this moment is written under a lease.
local job, n, now = ARGV[1], ARGV[2], now_ms()
if redis.call('HGET', key(job, 'leases'), 'token:' .. n) ~= ARGV[3] then return 'lost' end
redis.call('HSET', key(job, 'leases'), 'until:' .. n, now + ARGV[4])
redis.call('ZADD', AGAIN, now + ARGV[4], job .. '/' .. n)
return redis.call('HGET', key(job), 'state') == 'cancelled' and 'cancelled' or 'held'

-- ARGV: job, chunk, token, lease ms. Returns held, lost or cancelled.
local job, n, now = ARGV[1], ARGV[2], now_ms()
if redis.call('HGET', key(job, 'leases'), 'token:' .. n) ~= ARGV[3] then return 'lost' end
if redis.call('HGET', key(job), 'state') == 'cancelled' then return 'cancelled' end
redis.call('HSET', key(job, 'leases'), 'until:' .. n, now + ARGV[4])
redis.call('ZADD', DUE, now + ARGV[4], job .. '/' .. n)
return 'held'

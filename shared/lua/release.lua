-- ARGV: job, chunk, token, ms until it is sent again, 1 where the attempt shall not count, reason, ttl.
local job, n, leases = ARGV[1], ARGV[2], key(ARGV[1], 'leases')
if redis.call('HGET', leases, 'token:' .. n) ~= ARGV[3] then return 0 end
redis.call('HDEL', leases, 'token:' .. n, 'until:' .. n)
if redis.call('HGET', key(job), 'state') == 'cancelled' then
  cancel_chunk(job, n)
  finish_if_ended(job, now_ms(), ARGV[7])
  return 1
end
-- A job always ends: a service that fails this often counts as broken for good.
if ARGV[5] == '1' and redis.call('HINCRBY', leases, 'outages:' .. n, 1) <= MOST_OUTAGES then
  redis.call('HINCRBY', leases, 'attempts:' .. n, -1)
end
redis.call('HSET', key(job), 'last_error', ARGV[6])
redis.call('ZADD', AGAIN, now_ms() + ARGV[4], job .. '/' .. n)
return 1

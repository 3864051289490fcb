-- ARGV: line, token, lease ms. The errand of the line that has waited longest, under a new lease.
-- Returns {job, try, the job's hash}, or nothing where none waits.
local line, now = ARGV[1], now_ms()
for _, job in ipairs(redis.call('ZRANGEBYSCORE', line_key(line), '-inf', now, 'LIMIT', 0, 100)) do
  if redis.call('EXISTS', key(job)) == 1 then
    redis.call('HSET', key(job), 'holder:' .. line, ARGV[2])
    redis.call('ZADD', line_key(line), now + ARGV[3], job)
    local try = redis.call('HINCRBY', key(job), 'tries:' .. line, 1)
    return {job, try, redis.call('HGETALL', key(job))}
  end
  redis.call('ZREM', line_key(line), job)
end
return nil

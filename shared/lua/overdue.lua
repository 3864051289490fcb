-- ARGV: how many at most, ms until they are looked at again, ttl. Returns {job, chunk, job, chunk, …} to be sent again.
local now, again = now_ms(), {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local job, n = string.match(member, '^(.*)/(%d+)$')
  if redis.call('HEXISTS', key(job, 'chunks'), n) == 0 then
    redis.call('ZREM', DUE, member)
  elseif redis.call('HGET', key(job), 'state') == 'cancelled' then
    cancel_chunk(job, n)
    finish_if_ended(job, now, ARGV[3])
  else
    redis.call('ZADD', DUE, now + ARGV[2], member)
    again[#again + 1] = job
    again[#again + 1] = n
  end
end
return again

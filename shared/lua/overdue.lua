-- ARGV: how many to send at most, ms until they are looked at again, ttl. What was cancelled ends here. Returns {job, chunk, job, chunk, …} to be sent again.
local now, again = now_ms(), {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, 1000)) do
  local job, n = string.match(member, '^(.*)/(%d+)$')
  if redis.call('HEXISTS', key(job, 'chunks'), n) == 0 then
    redis.call('ZREM', DUE, member)
  elseif redis.call('HGET', key(job), 'state') == 'cancelled' then
    if not lease_is_live(job, n, now) then
      cancel_chunk(job, n)
      finish_if_ended(job, now, ARGV[3])
    end
  elseif #again < 2 * tonumber(ARGV[1]) then
    redis.call('ZADD', DUE, now + ARGV[2], member)
    again[#again + 1] = job
    again[#again + 1] = n
  end
end
return again

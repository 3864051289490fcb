-- ARGV: how many to send at most of what is in no queue, how many of what may be, ms until they are looked at again, ttl.
-- What was cancelled ends here. Returns {job, chunk, job, chunk, …} to be sent again.
local now, again = now_ms(), {}

local function send(line, most)
  local sent = 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', line, '-inf', now, 'LIMIT', 0, 1000)) do
    local job, n = string.match(member, '^(.*)/(%d+)$')
    if redis.call('HEXISTS', key(job, 'chunks'), n) == 0 then
      redis.call('ZREM', line, member)
    elseif redis.call('HGET', key(job), 'state') == 'cancelled' then
      if not lease_is_live(job, n, now) then
        cancel_chunk(job, n)
        finish_if_ended(job, now, ARGV[4])
      end
    elseif sent < most then
      redis.call('ZREM', line, member)
      redis.call('ZADD', DUE, now + ARGV[3], member)
      again[#again + 1] = job
      again[#again + 1] = n
      sent = sent + 1
    end
  end
end

send(AGAIN, tonumber(ARGV[1]))
send(DUE, tonumber(ARGV[2]))
return again

-- What wrk sends, and what it tells when it is done. Usage: wrk … -s wrk.lua URL -- DEPTH METHOD [BODY [FILE]]
-- DEPTH: requests sent in one go, pipelined. FILE: bearer tokens, one a line, used in turn.

function init(args)
  local depth, method, body, file = tonumber(args[1] or 1), args[2] or "GET", args[3] or "", args[4]
  local tokens, requests, turn = {}, {}, 0

  wrk.method = method
  if body ~= "" then
    wrk.body = body
    wrk.headers["Content-Type"] = "application/json"
  end
  if file then
    for token in io.lines(file) do tokens[#tokens + 1] = token end
  end
  for i = 1, math.max(1, #tokens) do
    if tokens[i] then wrk.headers["Authorization"] = "Bearer " .. tokens[i] end
    requests[i] = string.rep(wrk.format(), depth)
  end
  -- Only where requests differ, or are several: without this function wrk sends the one it knows, and spends less on it.
  if depth > 1 or #tokens > 1 then
    request = function()
      turn = turn % #requests + 1
      return requests[turn]
    end
  end
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format("RESULT requests=%d seconds=%f failed=%d p50_us=%f p99_us=%f max_us=%f\n", summary.requests,
    summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99),
    latency.max))
end

-- What bench/serve has wrk send, and how it reports: BODY is the request; THINK_MS, where it is set, how long a connection
-- rests on average between an answer and its next request (evenly from nothing to twice that).
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["Content-Type"] = "application/json"

local think = tonumber(os.getenv("THINK_MS") or "0")
if think > 0 then
   function delay()
      return math.random(0, 2 * think)
   end
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format('{"requests": %d, "seconds": %.6f, "p50": %.4f, "p90": %.4f, "p99": %.4f, "failed": %d, "broken": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
      latency:percentile(99) / 1e3, e.status, e.connect + e.read + e.write + e.timeout))
end

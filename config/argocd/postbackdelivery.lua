-- Health of a PostbackDelivery for Argo CD, which shows deliveries below their Postback. It does not change the health of the application.
local phase = obj.status ~= nil and obj.status.phase or nil
if phase == "Delivered" then
  return {status = "Healthy", message = "The endpoint accepted the event."}
end
if phase == "Failed" then
  return {status = "Degraded", message = "The delivery failed, and is not retried."}
end
if phase == "Retrying" then
  for _, condition in ipairs(obj.status.conditions or {}) do
    if condition.type == "Delivered" and condition.reason == "WaitingForEndpoint" then
      return {status = "Suspended", message = "The endpoint answered 410 (Gone). The delivery waits until the spec of its Postback changes, or until somebody sends a test event or redelivers one of its deliveries."}
    end
  end
  if obj.status.nextAttemptTime == nil then
    return {status = "Progressing", message = "The next attempt is due."}
  end
  return {status = "Progressing", message = "The next attempt is scheduled for " .. obj.status.nextAttemptTime .. "."}
end
local deferred = {Paused = "Its Postback was paused when the event was stored.", Disabled = "Its Postback was disabled when the event was stored."}
local annotations = obj.metadata.annotations or {}
local why = deferred[annotations["postback.dev/deferred"] or ""]
if why ~= nil then
  return {status = "Suspended", message = why .. " It waits for its first attempt."}
end
return {status = "Progressing", message = "It waits for its first attempt."}

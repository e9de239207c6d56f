-- Health of a PostbackDelivery for Argo CD, which shows deliveries below their Postback. It has no part in the application's.
local phase = obj.status ~= nil and obj.status.phase or nil
if phase == "Delivered" then
  return {status = "Healthy", message = "The endpoint accepted the event."}
end
if phase == "Failed" then
  return {status = "Degraded", message = "It was given up."}
end
if phase == "Retrying" then
  return {status = "Progressing", message = "The next attempt is due at " .. (obj.status.nextAttemptTime or "an unknown time") .. "."}
end
return {status = "Progressing", message = "The first attempt is being made."}

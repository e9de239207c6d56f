-- Health of a PostbackSecret for Argo CD. Ready, Reconciling and Stalled follow kstatus.
-- Argo CD runs each script alone, so this one repeats the beginning of postback.lua.
local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end
local ready, stalled = conditions.Ready, conditions.Stalled
if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "It is being deleted."}
end
if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "Waiting for the operator."}
end
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
if ready.status ~= "True" then
  return {status = "Progressing", message = ready.message}
end
return {status = "Healthy", message = ready.message}

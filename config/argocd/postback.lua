-- Health of a Postback for Argo CD. Ready, Reconciling and Stalled follow kstatus; a Postback that is paused or disabled on purpose
-- is Suspended. A failing endpoint does not make it Degraded, because the manifest is in force; the message reports the endpoint.
local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end
local ready, stalled, endpoint = conditions.Ready, conditions.Stalled, conditions.EndpointHealthy
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
-- A table of texts, because Argo CD gives scripts no string library.
local suspended = {Paused = "It is paused.", Disabled = "It is disabled."}
if obj.spec.state ~= nil and suspended[obj.spec.state] ~= nil then
  return {status = "Suspended", message = suspended[obj.spec.state]}
end
if endpoint ~= nil and endpoint.status == "False" then
  return {status = "Healthy", message = endpoint.message}
end
return {status = "Healthy", message = ready.message}

-- add_key --
INSERT INTO keys (id, tenant, project, name, digest, created_at, expires_at, models)
VALUES (:id, :tenant, :project, :name, :digest, :created_at, :expires_at, :models)

-- all_keys --
SELECT id, tenant, project, name, digest, created_at, expires_at, revoked_at, models
FROM keys ORDER BY created_at, id

-- revoke_key --
UPDATE keys SET revoked_at = :at WHERE id = :id AND revoked_at IS NULL

-- keys_revision --
SELECT value FROM revisions WHERE name = 'keys'

-- put_plan --
INSERT INTO plans (name, weight, limits) VALUES (:name, :weight, :limits)
ON CONFLICT (name) DO UPDATE SET weight = excluded.weight, limits = excluded.limits

-- put_tenant --
INSERT INTO tenants (id, plan, tier, enabled) VALUES (:id, :plan, :tier, :enabled)
ON CONFLICT (id) DO UPDATE SET plan = excluded.plan, tier = excluded.tier, enabled = excluded.enabled

-- put_project --
INSERT INTO projects (tenant, id) VALUES (:tenant, :id) ON CONFLICT DO NOTHING

-- put_configured_key --
INSERT INTO configured_keys (id, tenant, project, name) VALUES (:id, :tenant, :project, :name) ON CONFLICT DO NOTHING

-- add_record --
INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- record_by_id --
SELECT * FROM records WHERE request_id = :request_id

-- usage_since --
SELECT tenant, project, key, model, deployment,
       count(*) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
FROM records
WHERE at >= :since AND (status BETWEEN 1 AND 299 OR input_tokens + output_tokens > 0) AND (:tenant IS NULL OR tenant = :tenant)
GROUP BY tenant, project, key, model, deployment

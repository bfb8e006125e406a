# The policy of the token that scep-ra has at Vault or OpenBao: docs/connectors/vault.md says what each rule is for.
# pki_dev, scep-issuing and the roles are those of vault.toml.

path "pki_dev/issuer/scep-issuing/sign/scep-devices"         { capabilities = ["update"] }
path "pki_dev/issuer/scep-issuing/sign/scep-devices-signing" { capabilities = ["update"] }
path "pki_dev/issuer/scep-issuing/sign/scep-ra"              { capabilities = ["update"] }  # only to renew the RA itself
path "pki_dev/revoke"                { capabilities = ["update"] }  # revokes any certificate of the mount
path "pki_dev/certs/detailed"        { capabilities = ["list"] }    # OpenBao, with lists_certificates
path "auth/token/renew-self"         { capabilities = ["update"] }
path "auth/token/lookup-self"        { capabilities = ["read"] }

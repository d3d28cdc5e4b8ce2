/* http_tls.c: the certificates that the server shows. libmicrohttpd reads one pair, when it starts, and never another
 * one: so each connection is given the newest of ours before its handshake, in place of libmicrohttpd's, which are the
 * same at first. GnuTLS keeps no copy: a pair stays until the server ends, for sessions that began with it. */
#include "serve/http_internal.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

struct http_identity {
    http_identity *older;
    gnutls_certificate_credentials_t credentials;
    char *certificate, *key; /* PEM, NUL-terminated; NULL once wiped */
    size_t certificate_size, key_size;
    char hash[65]; /* SHA-256 of both: is it another pair? */
};

static drr_status make_credentials(http_identity *id, const char *certificate, const char *key, drr_error *err)
{
    const gnutls_datum_t chain = {(unsigned char *)id->certificate, (unsigned)id->certificate_size};
    const gnutls_datum_t secret = {(unsigned char *)id->key, (unsigned)id->key_size};
    int code = gnutls_certificate_allocate_credentials(&id->credentials);
    if (code < 0) {
        id->credentials = NULL;
        return error_memory(err);
    }
    code = gnutls_certificate_set_x509_key_mem(id->credentials, &chain, &secret, GNUTLS_X509_FMT_PEM);
    if (code >= 0)
        return DRR_OK;
    return error_set(err, DRR_E_ARGUMENT,
                     "%s and %s cannot be used for TLS (%s); both must be PEM, and the key that of the certificate",
                     certificate, key, gnutls_strerror(code));
}

static void take_hash(http_identity *id)
{
    sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, id->certificate, id->certificate_size + 1); /* with the NUL between them */
    sha256_add(&hash, id->key, id->key_size);
    sha256_end(&hash, id->hash);
}

drr_status identity_read(http_identity **identity, const char *certificate, const char *key, drr_error *err)
{
    enum { MOST = 1 << 20 };
    http_identity *id = calloc(1, sizeof *id);
    if (!id)
        return error_memory(err);
    drr_status status = file_read(&id->certificate, &id->certificate_size, certificate, MOST, err);
    if (status == DRR_OK)
        status = file_read(&id->key, &id->key_size, key, MOST, err);
    if (status == DRR_OK)
        status = make_credentials(id, certificate, key, err);
    if (status == DRR_OK)
        take_hash(id);
    if (status == DRR_OK)
        *identity = id;
    else
        identity_free(id);
    return status;
}

void identity_wipe(http_identity *id)
{
    if (id->key)
        explicit_bzero(id->key, id->key_size);
    free(id->key);
    free(id->certificate);
    id->key = id->certificate = NULL;
}

void identity_free(http_identity *id)
{
    while (id) {
        http_identity *older = id->older;
        identity_wipe(id);
        if (id->credentials)
            gnutls_certificate_free_credentials(id->credentials);
        free(id);
        id = older;
    }
}

char *identity_certificate(const http_identity *id)
{
    return id->certificate;
}

char *identity_key(const http_identity *id)
{
    return id->key;
}

void identity_put_locked(http_server *s, http_identity *id)
{
    if (s->identity && strcmp(s->identity->hash, id->hash) == 0) { /* read again, and the same: one is enough */
        identity_free(id);
        return;
    }
    identity_wipe(id); /* GnuTLS has what it needs of them */
    id->older = s->identity;
    s->identity = id;
}

void identity_show_locked(http_server *s, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (info && info->tls_session)
        gnutls_credentials_set(info->tls_session, GNUTLS_CRD_CERTIFICATE, s->identity->credentials);
}

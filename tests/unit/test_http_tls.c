/* test_http_tls.c: what a server keeps of certificates that are read again and again. That new ones are shown, and
 * wrong ones refused, is tests/e2e/test_serve_change.py's to see. */
#include "http_fixture.h"
#include "place_fixture.h"

#include <gnutls/x509.h>
#include <malloc.h>
#include <time.h>

static void write_pem(const char *name, const gnutls_datum_t *pem)
{
    FILE *file = fopen(at(name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(pem->data, 1, pem->size, file), pem->size);
    assert_int_equal(fclose(file), 0);
}

/* A key and a certificate that it signed itself: c.pem, k.pem. */
static void write_pair(void)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t pem;
    gnutls_x509_privkey_init(&key);
    gnutls_x509_crt_init(&crt);
    assert_int_equal(
        gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0), 0);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, "1", 1);
    gnutls_x509_crt_set_activation_time(crt, time(NULL) - 60);
    gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 3600);
    gnutls_x509_crt_set_key(crt, key);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_pem("c.pem", &pem);
    gnutls_free(pem.data);
    assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_pem("k.pem", &pem);
    gnutls_free(pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static void read_again(http_server *server, const http_options *options, int times)
{
    for (int i = 0; i < times; i++) {
        http_change *change = NULL;
        assert_int_equal(http_change_make(&change, server, options, NULL), DRR_OK);
        http_change_take(server, change);
    }
}

static void the_same_pair_again_leaves_nothing_behind(void **state)
{
    (void)state;
    char certificate[600], key[600];
    http_options options;
    http_server *server = NULL;
    drr_error err = {0};
    const http_route none[] = {{"GET", "/", HTTP_PUBLIC, reply_echo, NULL}};
    write_pair();
    snprintf(certificate, sizeof certificate, "%s", at("c.pem"));
    snprintf(key, sizeof key, "%s", at("k.pem"));
    http_options_defaults(&options);
    options.tls_certificate = certificate;
    options.tls_key = key;
    if (http_open(&server, &options, none, 1, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    read_again(server, &options, 10);
    const size_t before = mallinfo2().uordblks; /* 0 with a sanitizer, whose own leak check is at work there */
    read_again(server, &options, 100);
    assert_true(mallinfo2().uordblks < before + 10000);
    write_pair();
    read_again(server, &options, 1); /* another one is taken, and freed at the end as the first one is */
    http_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_same_pair_again_leaves_nothing_behind, make_place, remove_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

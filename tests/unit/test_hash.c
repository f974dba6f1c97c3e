/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 against the vectors of FIPS 180-4 and of NIST's validation suite, and
 * in pieces of every length against the whole. */
#include "unit.h"

#include "core/hash.h"

static void assert_hash(const void *data, size_t n, const char *expected)
{
    uint8_t out[FLI__HASH_BYTES];
    char text[2 * FLI__HASH_BYTES + 1];
    fli__hash hash;

    fli__hash_begin(&hash);
    fli__hash_add(&hash, data, n);
    fli__hash_end(&hash, out);
    fli__hash_text(out, FLI__HASH_BYTES, text);
    assert_string_equal(text, expected);
}

static void published_vectors(void **state)
{
    static char million[1000000];

    (void)state;
    assert_hash("", 0,
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8"
                "55");
    assert_hash("abc", 3,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015"
                "ad");
    assert_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06"
                "c1");
    memset(million, 'a', sizeof(million));
    assert_hash(million, sizeof(million),
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112c"
                "d0");
}

static void pieces_are_the_whole(void **state)
{
    uint8_t data[300], whole[FLI__HASH_BYTES], pieces[FLI__HASH_BYTES];
    fli__hash hash;

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n <= sizeof(data); n++) {
        fli__hash_begin(&hash);
        fli__hash_add(&hash, data, n);
        fli__hash_end(&hash, whole);
        for (size_t piece = 1; piece < 70; piece += 3) {
            fli__hash_begin(&hash);
            for (size_t i = 0; i < n; i += piece)
                fli__hash_add(&hash, data + i, n - i < piece ? n - i : piece);
            fli__hash_end(&hash, pieces);
            assert_memory_equal(whole, pieces, sizeof(whole));
        }
    }
}

static void texts_do_not_run_together(void **state)
{
    uint8_t a[FLI__HASH_BYTES], b[FLI__HASH_BYTES];
    fli__hash hash;

    (void)state;
    fli__hash_begin(&hash);
    fli__hash_add_text(&hash, "ab");
    fli__hash_add_text(&hash, "c");
    fli__hash_end(&hash, a);
    fli__hash_begin(&hash);
    fli__hash_add_text(&hash, "a");
    fli__hash_add_text(&hash, "bc");
    fli__hash_end(&hash, b);
    assert_memory_not_equal(a, b, sizeof(a));
}

static void first_bytes_as_text(void **state)
{
    static const uint8_t bytes[] = { 0x00, 0x9f, 0xa0 };
    char text[7];

    (void)state;
    fli__hash_text(bytes, 3, text);
    assert_string_equal(text, "009fa0");
    fli__hash_text(bytes, 0, text);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors),
        cmocka_unit_test(pieces_are_the_whole),
        cmocka_unit_test(texts_do_not_run_together),
        cmocka_unit_test(first_bytes_as_text),
    };

    return RUN(tests);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
// The header as C++17, with the handles in unique_ptr.
#include "tap.h"

#include <memory>
#include <string>
#include <string_view>

namespace {

struct Free {
    void operator()(smbgw_context *p) const { smbgw_context_free(p); }
    void operator()(smbgw_buffer *p) const { smbgw_buffer_free(p); }
    void operator()(smbgw_error *p) const { smbgw_error_free(p); }
};

template <typename T> using Owned = std::unique_ptr<T, Free>;

std::string query(const smbgw_context *ctx, std::string_view op, std::string_view params)
{
    smbgw_buffer *out = nullptr;
    smbgw_error *err = nullptr;
    const int32_t code = smbgw_query(ctx, op.data(), op.size(), params.data(), params.size(), &out, &err);
    const Owned<smbgw_buffer> document(out);
    const Owned<smbgw_error> error(err);
    if (code != SMBGW_OK)
        return std::string("error: ") + smbgw_error_message(error.get());
    return std::string(smbgw_buffer_data(document.get()), smbgw_buffer_len(document.get()));
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    const Owned<smbgw_context> ctx(context_in(argv[1]));
    ok(ctx != nullptr, "a context");
    ok(query(ctx.get(), "schema", "{}").front() == '{', "a document");
    ok(query(ctx.get(), "no.such.query", "{}").rfind("error: ", 0) == 0, "an error");
    smbgw_usage usage = SMBGW_USAGE_INIT;
    ok(usage.size == sizeof(smbgw_usage) && usage.total == 0, "SMBGW_USAGE_INIT in C++");
    return done_testing();
}

/* A port in; an OpenAI-compatible server out that answers each connection once with the same words, and ends by itself. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char BODY[] =
    "{\"id\":\"chatcmpl-musl\",\"object\":\"chat.completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":"
    "{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}";

int main(int count, char **words) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    alarm(120);
    address.sin_port = htons(count > 1 ? atoi(words[1]) : 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) {
        perror("listen");
        return 1;
    }
    for (;;) {
        static char request[65536], answer[1024];
        int peer = accept(listener, NULL, NULL), length;
        size_t have = 0;
        char *body = NULL, *wanted;
        while (peer >= 0 && have < sizeof request - 1) {
            ssize_t got = read(peer, request + have, sizeof request - 1 - have);
            if (got <= 0)
                break;
            have += got;
            request[have] = 0;
            body = strstr(request, "\r\n\r\n");
            wanted = strstr(request, "Content-Length: ");
            if (body && (!wanted || strlen(body + 4) >= (size_t)atoi(wanted + 16)))
                break;
        }
        if (body) {
            length = snprintf(answer, sizeof answer,
                              "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                              "Connection: close\r\n\r\n%s",
                              sizeof BODY - 1, BODY);
            if (write(peer, answer, length) != length)
                perror("write");
        }
        close(peer);
    }
}

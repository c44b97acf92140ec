// slave is a Modbus server made of libmodbus, to read by a client that shares no
// code with it:
//
//	slave rtu TERMINAL STATION
//	slave tcp STATION
//
// It says "ready PORT" (0 on a terminal) and then "function N" for each request.
// A line "ADDRESS VALUE" on its standard input sets the holding register and the
// input register of that address. It ends with its input.
#include <arpa/inet.h>
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { registers = 128 };

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
  exit(1);
}

// set takes what has come on standard input; it is small enough to come at once.
static void set(modbus_mapping_t *map) {
  char text[4096];
  ssize_t n = read(0, text, sizeof text - 1);
  if (n <= 0) exit(0);
  text[n] = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    unsigned address, value;
    if (sscanf(line, "%u %u", &address, &value) != 2 || address >= registers) {
      fprintf(stderr, "cannot set %s\n", line);
      exit(2);
    }
    map->tab_registers[address] = map->tab_input_registers[address] = value;
  }
}

int main(int argc, char **argv) {
  int tcp = argc == 3 && !strcmp(argv[1], "tcp");
  if (!tcp && (argc != 4 || strcmp(argv[1], "rtu"))) return 2;
  modbus_t *ctx = tcp ? modbus_new_tcp("127.0.0.1", 0) : modbus_new_rtu(argv[2], 115200, 'N', 8, 1);
  modbus_mapping_t *map = modbus_mapping_new(0, 0, registers, registers);
  if (!ctx || !map || modbus_set_slave(ctx, atoi(argv[argc - 1]))) fail("make server");

  int listener = -1, line = -1, port = 0;
  if (tcp) {
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    if ((listener = modbus_tcp_listen(ctx, 1)) < 0 || getsockname(listener, (struct sockaddr *)&at, &size)) fail("listen");
    port = ntohs(at.sin_port);
  } else {
    if (modbus_connect(ctx)) fail("open terminal");
    line = modbus_get_socket(ctx);
  }
  printf("ready %d\n", port);
  fflush(stdout);

  for (;;) {
    fd_set wait;
    FD_ZERO(&wait);
    FD_SET(0, &wait);
    if (line >= 0) FD_SET(line, &wait);
    if (listener >= 0) FD_SET(listener, &wait);
    if (select((line > listener ? line : listener) + 1, &wait, NULL, NULL, NULL) < 0) fail("select");
    if (FD_ISSET(0, &wait)) set(map);
    if (line >= 0 && FD_ISSET(line, &wait)) {
      uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
      int n = modbus_receive(ctx, request);
      if (n > 0) {
        printf("function %d\n", request[modbus_get_header_length(ctx)]);
        fflush(stdout);
        if (modbus_reply(ctx, request, n, map) < 0 && !tcp) fail("reply");
      } else if (n < 0 && tcp) {
        close(line);
        line = -1;
      }
    }
    if (listener >= 0 && FD_ISSET(listener, &wait)) {
      if (line >= 0) close(line);
      if ((line = modbus_tcp_accept(ctx, &listener)) < 0) fail("accept");
    }
  }
}

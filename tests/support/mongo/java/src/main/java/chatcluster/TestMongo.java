package chatcluster;

import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.List;

/**
 * An in-memory server that speaks MongoDB's protocol, for tests: it prints its port and lives as long as its
 * standard input is open, so that it cannot outlive the test that started it. Given an address beside the port, it
 * serves that until it is killed.
 */
public final class TestMongo {
  /** What 7.0 says of itself. The library says wire version 8, which current drivers refuse to talk to. */
  private static final MongoVersion MONGO_7_0 =
      new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
          return List.of(7, 0, 0, 0);
        }

        @Override
        public String toVersionString() {
          return "7.0.0";
        }

        @Override
        public int getWireVersion() {
          return 21;
        }
      };

  private TestMongo() {}

  public static void main(String[] arguments) throws IOException, InterruptedException {
    int port = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 0;
    boolean alone = arguments.length > 1;
    String address = alone ? arguments[1] : "127.0.0.1";
    MemoryBackend backend = new MemoryBackend();
    backend.version(MONGO_7_0);
    MongoServer server = new MongoServer(backend);
    server.bind(new InetSocketAddress(address, port));
    System.out.println(server.getLocalAddress().getPort());
    if (alone) {
      Thread.currentThread().join();
    }
    while (System.in.read() != -1) {
      // Nothing is ever said to us; the end of the pipe is the message.
    }
    server.shutdownNow();
    System.exit(0);
  }
}

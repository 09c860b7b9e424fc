import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;

/** Answers MQTT requests as Responder does, with Kafka Streams: StreamsResponder BOOTSTRAP REQUESTS RESPONSES STATE_DIRECTORY. */
public final class StreamsResponder {
    private StreamsResponder() {
    }

    /** Makes a response of each request. */
    private static final class Answer extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
        @Override
        public void process(Record<byte[], byte[]> request) {
            var to = request.headers().lastHeader("mqtt-response-topic");
            var correlation = request.headers().lastHeader("mqtt-correlation-data");
            if (to == null) {
                return;
            }
            byte[] answer = ("answer to " + new String(request.value(), StandardCharsets.UTF_8)).getBytes(StandardCharsets.UTF_8);
            var headers = new RecordHeaders();
            if (correlation != null) {
                headers.add(correlation);
            }
            context().forward(new Record<>(to.value(), answer, request.timestamp(), headers));
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        Properties settings = new Properties();
        settings.put("application.id", arguments[1] + "-streams");
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("state.dir", arguments[3]);
        settings.put("commit.interval.ms", "100");
        var bytes = new ByteArrayDeserializer();
        var topology = new Topology();
        topology.addSource("requests", bytes, bytes, arguments[1]);
        topology.addProcessor("answer", Answer::new, "requests");
        topology.addSink("responses", arguments[2], new ByteArraySerializer(), new ByteArraySerializer(), "answer");
        var streams = new KafkaStreams(topology, settings);
        streams.start();
        new CountDownLatch(1).await();
    }
}
